"""The one transformer that both twins are: what a token may see is an argument, not a class.

`transformer.py` is the public part; `attention.py` and `rotary.py` serve it.
"""
