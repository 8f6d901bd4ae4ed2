"""Benchmarks: `python -m tests.bench [NAME …] [--json]`. They measure; tests are elsewhere and never time anything."""
