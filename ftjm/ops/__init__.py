"""Tools for operators of a running cluster: doctor, drain, snapshots, export and import, upgrade."""
