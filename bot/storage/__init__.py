"""Where the journal is kept: one port, in memory or in an SQLite file. SQL stands here and nowhere else."""
