"""Documents that share text with evaluation data, found exactly and left out.

words                    text as words without case, accents of layout or punctuation; hashes
evaluation_texts         the texts of evaluation sets, whatever their layout
evaluation_ngrams        their n-grams, ready to be looked for
decontamination          the n-grams that documents have in common with them
decontamination_count    what was left out, for a report and a list
"""
