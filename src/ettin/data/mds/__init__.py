"""The shards of MosaicML Streaming, as the published data come: read warily, and written.

index      what a folder says of itself; no pickles
shards     the samples of one shard, checked before they are used
source     folders of shards as sources of documents
writing    shards and indexes, byte for byte those of the original writer
export     a corpus as such folders
"""
