"""Exports, runs and corpora → repositories on the hub, each tag read back and compared.

run.py       the stage: find, plan, build the tree, upload
found.py     what the given paths hold, refused unless every hash is right
models.py    exports and runs put together as models: roles, twins, starts, thinning, gaps
names.py     what each repository is called
public.py    what of a file leaves the machine: no paths, no command lines, no secrets
cards.py     model cards        dataset_cards.py   cards of orders and corpora
contents.py  which files each revision of each repository holds
tree.py      the complete tree on the disk, with sizes and hashes
remote.py    a repository on the hub: read, compared, refused
upload.py    one commit and one tag a checkpoint, verified
"""
