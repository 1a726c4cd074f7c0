"""Files of examples: JSON, JSON lines, Parquet, the hub; faults are told with their line."""
