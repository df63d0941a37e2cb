"""Documents out of files, wherever they lie: text, or token ids that are given.

sources            what is read together under one name; all documents of it
places             how a place is written: paths, patterns, URLs; no secrets
local_listing      the files that places of this machine name
remote_listing     those of web servers and stores, as `fsspec` knows them
remote_files       reading them in ranges; a network that fails is never a defect of the text
hub_datasets       which files of a data set on the hub are its data
readers            one reader a format
tokenised          what is taken off documents that come as token ids
token_tables       parquet tables of token ids
tally              what was read, and what was left out for which reason
"""
