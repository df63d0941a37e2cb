"""What a run had seen: derived from its recipe and its corpus, step by step, in either direction.

    runs       a run opened with the orders of its phases; tags and steps
    rows       rows → chunks → documents of a corpus, and back, many at once
    show       an interval: its rows, documents and sources, and a hash of them
    find       a document: every step that trained on it
    verify     the derived order against the recorded ledger, or against another run
    export     all rows as Parquet, a file for each checkpoint

Nothing here reads tokens but `verify`, and no tensor library is needed.
"""
