"""Loaders that the benchmark of loading compares: one file a library, all with the same shape.

    made_up.py         writes the same documents in each library's form
    ettin_rows.py      ours
    numpy_memmap.py    no library: a memory map and a permutation
    mosaicml.py        MosaicML Streaming
    grain_map.py       Grain
    litdata_items.py   litdata
    packer.py          the packer that all but ours are given
    worker.py          one process, one contender

A file of a library has `LIBRARY`, the distribution whose version is told, and `SETTINGS`: by name,
functions from the folder of `made_up` to an endless iterator of batches. It runs in the Python
where the library is installed, so it imports nothing of ettin's.
"""
