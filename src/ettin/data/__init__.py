"""Text in, training batches out.

    reading     documents out of files, wherever they lie      mds       the published shards
    clean       documents that hold evaluation data            prepare   sources → corpus, the stage
    preparation how that is split, interrupted and merged      chunking  documents → chunks
    packing     chunks → rows                                  corpus    the token store on disk
    order       step → row ids, and back                       batches   row ids → tensors
    ledger      what each step saw, as sums                    seen      show, find, verify, export

Everything up to the order happens once, before training; no tensor library is needed for it.
"""
