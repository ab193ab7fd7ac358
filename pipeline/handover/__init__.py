"""The files that one stage hands to the next, each with a schema that its writer and its readers share.

`documents` reads and writes JSON: `runs`, `spectra` and `logs` have what runs leave, `manifests` what lies beside arrays and
weights. `tables` are the CSV files. A file is read as it is, or refused in a line that names it; nothing is filled in.
"""
