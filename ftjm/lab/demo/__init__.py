"""The demonstration: real jobs on a real cluster, with a scheduler, a worker and the API killed midway.

`scenario.py` is the demonstration from its first line to its verdict. `batch.py` makes the jobs and checks their
outputs, `cluster.py` starts `ftjm up` and kills its processes, `api_client.py` follows the cluster over HTTP, and
`cross_checks.py` compares the API's answers with the log. The history checker judges the log.
"""
