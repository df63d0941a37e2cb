"""From sources to a corpus in parts that are made apart, in any order, and put together at the end.

    pieces     what a source is read in: files, and stretches of long ones
    parts      pieces that make one piece of work; told apart by a fingerprint of all they depend on
    samples    documents that say how fine and how faithful a tokenizer is
    working    a part → token shards and a record, whole or absent
    workers    processes that make parts, and end when their parent does
    merging    parts → corpus: unique ids, held-out documents, rows, manifest
    request    what one call of `prepare` asks for, and what becomes of it
    summary    what `prepare` tells of a corpus

A part depends on its text, the tokenizer and how records are read, and on nothing else: not on the
number of processes, nor on what was made before. So whatever was finished when a process died is
kept, and the corpus is the same to the byte.
"""
