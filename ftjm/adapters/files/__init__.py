"""Files and folders: Avro archives, folders of chunks."""
