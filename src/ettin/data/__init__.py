"""Text in, training batches out.

    sources   documents out of files          prepare   sources → corpus, the stage
    chunking  documents → chunks              packing   chunks → rows
    corpus    the token store on disk
    order     step → row ids, and back        batches   row ids → tensors
    ledger    what each step saw, as sums      seen      what a run had seen: show, find, verify

Everything up to the order happens once, before training; no tensor library is needed for it.
"""
