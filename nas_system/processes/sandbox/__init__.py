"""The sandbox of a training: what it may write, read, reach and use up, enforced by the Linux kernel.

Three layers, none of which needs root, a container or another program. Landlock says which files may be
read and written. A seccomp filter refuses what Landlock does not cover: networks of every kind, other
processes, modes and times of files. Namespaces show the training no other process, where the kernel allows
them. What holds is not declared but tried, in the training's own place, before its program starts.

No library does this for us. bubblewrap is a program that people would have to install, pyseccomp needs a
shared library that pip cannot bring, and both leave Landlock to us. Standard library only: the
supervisor starts with it.
"""
