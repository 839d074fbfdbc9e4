"""The read model of the cluster: a projection of the log, its queries, and the members' heartbeats."""
