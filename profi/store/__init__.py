"""What the stages leave for one another: folders of Parquet parts, atomic, resumable, mergeable."""
