import java.io.ByteArrayOutputStream;
import java.io.IOException;
import java.nio.ByteBuffer;
import java.nio.ByteOrder;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.HashMap;
import java.util.List;
import java.util.Map;
import java.util.Optional;
import java.util.stream.Stream;
import org.apache.avro.Schema;
import org.apache.avro.SchemaNormalization;
import org.apache.avro.generic.GenericData;
import org.apache.avro.generic.GenericDatumReader;
import org.apache.avro.generic.GenericRecord;
import org.apache.avro.io.DecoderFactory;
import org.apache.avro.message.BinaryMessageEncoder;

/** ftjm's records as bytes: Avro's single-object encoding, where the fingerprint selects the record type. */
final class Records {
    private static final int HEADER_BYTES = 10;

    private final Map<Long, Schema> byFingerprint = new HashMap<>();
    private final Map<String, Schema> byName = new HashMap<>();

    /** Reads every schema in the folders of {@code folder}: a file is one version of one record. */
    Records(Path folder) throws IOException {
        List<Path> files;
        try (Stream<Path> found = Files.walk(folder)) {
            files = found.filter(path -> path.toString().endsWith(".avsc")).sorted().toList();
        }
        for (Path file : files) {
            // A parser for each: schemas repeat the records that they nest, and one parser takes a name once.
            Schema schema = new Schema.Parser().parse(file.toFile());
            byFingerprint.put(SchemaNormalization.parsingFingerprint64(schema), schema);
            byName.put(schema.getFullName(), schema);
        }
    }

    Schema schema(String name) {
        return byName.get(name);
    }

    byte[] encode(GenericRecord record) throws IOException {
        ByteArrayOutputStream out = new ByteArrayOutputStream();
        new BinaryMessageEncoder<GenericRecord>(GenericData.get(), record.getSchema()).encode(record, out);
        return out.toByteArray();
    }

    /** The record, or nothing for one that is newer than these schemas: skip it. */
    Optional<GenericRecord> decode(byte[] data) throws IOException {
        if (data.length < HEADER_BYTES || (data[0] & 0xFF) != 0xC3 || data[1] != 1) {
            return Optional.empty();
        }
        long fingerprint = ByteBuffer.wrap(data, 2, 8).order(ByteOrder.LITTLE_ENDIAN).getLong();
        Schema schema = byFingerprint.get(fingerprint);
        if (schema == null) {
            return Optional.empty();
        }
        var body = DecoderFactory.get().binaryDecoder(data, HEADER_BYTES, data.length - HEADER_BYTES, null);
        return Optional.of(new GenericDatumReader<GenericRecord>(schema).read(null, body));
    }
}
