"""Kill a process before each of its file operations in turn, and look at what it left."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

CRASHES = r'''
"""Does something once for every file operation in it, each time killed just before that one."""
import os, signal, sys
from pathlib import Path
from fedn.identity.credentials import Keyring
from fedn.identity.certificates import issued_by, key_digest, private_key, read_certificate

STEPS = {"open", "os.rename", "os.link", "os.remove", "os.mkdir"}

def crashing(step, act):
    """Fork, and SIGKILL the child before its step-th file operation; whether it got through alive."""
    child = os.fork()
    if child == 0:
        left = [step]
        def watch(event, args):
            if event in STEPS:
                left[0] -= 1
                if left[0] == 0:
                    os.kill(os.getpid(), signal.SIGKILL)
        sys.addaudithook(watch)
        act()
        os._exit(0)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0

def whole(directory):
    """What is loaded, which must be nothing or a pair; the temporary files that were left are nobody's."""
    held = Keyring(directory).load()
    if held is not None:
        assert read_certificate(held.certificate).key == key_digest(private_key(held.key).public_key())
        assert issued_by(held.certificate, held.authority)
    return held
'''


def crashes(script: str, *args: Path) -> str:
    """Run ``script``, which has `crashing` and `whole`, in a process without threads; what it printed."""
    done = subprocess.run(
        [sys.executable, "-c", CRASHES + script, *map(str, args)], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout
