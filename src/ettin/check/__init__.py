"""A verifier of any directory that ettin writes: whole, unaltered, and sound in itself.

    check(Path("my-suite"))                # one sentence a problem; none: all is well
    examine(Path("my-suite")).notes        # what could not be compared, and why

Every file is compared with the manifest (presence, size, hash), inside finished directories too.
Only when all bytes are as they were written is it looked at what they say (`formats`, and a file
for each kind of directory), and whether directories still fit each other (`links`). It imports
none of the stages: it knows their files alone, and takes them for anyone's.
"""

from ettin.check.examine import check, examine
from ettin.check.findings import Findings

__all__ = ["Findings", "check", "examine"]
