"""Builds the images that the cluster's tests need: as root, with no registry and no container tool.

A layer is the upper folder of an overlay mount in which a step ran; an archive is a tar with JSON
(an OCI layout that ``docker load`` and ``ctr images import`` take alike).  Neither needs a daemon
nor a storage driver, and layers that images share are made, stored and unpacked once.

* :mod:`.layers`: makes layers, and keeps them by what they were made from.
* :mod:`.debian`, :mod:`.python`, :mod:`.steps`: what the layers hold.
* :mod:`.dockerfile`: the settings of an image, from the Dockerfile that others build it with.
* :mod:`.archive`: layers and settings as one file.
"""
