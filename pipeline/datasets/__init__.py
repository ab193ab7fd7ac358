"""Datasets: find or download the published files, and store their images as uint8 arrays in data/raw/.

`sources` lists the public datasets, `local` and `download` locate their files, `official` and `folders` read them, and
`raw` and `raw_writer` read and write data/raw/. `weights` fetches pretrained initial weights.
"""
