"""The demonstration: a real batch on a real cluster that is broken midway, and judged by its log and its outputs."""
