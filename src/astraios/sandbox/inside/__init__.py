"""What runs inside a sandbox server.

A server is a fresh interpreter that never imports Astraios: it finds this folder by path, so its
files use the standard library and each other only. In order of use:

    boot.py       the entry point: enter a level of isolation, serve, run a program
    frames.py     messages between the grading process and a server
    syscalls.py   the kernel's calls that the standard library does not offer
    jail.py       level `namespaces`: own namespaces and a minimal root
    contained.py  levels `bubblewrap`, `podman`, `docker`: another tool has made them
    landlock.py   level `landlock`: file rules of an ordinary process
    calls.py      numbers of the system calls a program may make
    seccomp.py    the filter made of them
    paths.py      which files of the machine an interpreter needs
    confine.py    ids, capabilities, resource limits and descriptors of a program's process
    workfolder.py the one folder a program may write to
    serve.py      the loop: one program, one process, at a time
    processes.py  ending processes, and what is left of them
    native.py     programs that commands build and run
    resident.py   a compiler that stays
    program.py    candidate and tests as one program; the driver that runs it
    original.py   what the original harness takes away from a Python program
    control.py    tests that no honest program can pass
"""
