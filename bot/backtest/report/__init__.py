"""Reports of runs: as text for a terminal, as JSON and CSV, as one page of HTML; saved, loaded and compared.

`document` is what a report holds; everything else is a pure function of it, but for `files`, which reads and writes.
"""
