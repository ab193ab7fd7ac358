"""The files through which stages exchange data, each with a schema that its writer and its readers share.

`documents` reads and writes JSON files. Their schemas are in `runs`, `spectra` and `logs` (the results of runs) and in
`manifests` (the files beside arrays and weights). `tables` has the CSV files. A file either matches its schema or is
rejected with a one-line error that names it; missing values are never filled in.
"""
