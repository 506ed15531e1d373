"""Files that one stage writes and the next one reads: folders of Parquet parts, and journals."""
