"""The statistics checked on made-up records: what is stated beside what is reached."""
