"""Pushes and pulls with the client library `oras`, for the tests beside it.

    oras_peer.py push REFERENCE FILE     pushes one file as an artifact
    oras_peer.py pull REFERENCE FOLDER   pulls every file of an artifact
    oras_peer.py tags REFERENCE          prints the tags of a repository, one a line
"""

import os
import sys

import oras.client


def main(verb, reference, *rest):
    host = reference.split("/", 1)[0]
    client = oras.client.OrasClient(hostname=host, insecure=True)
    if verb == "push":
        os.chdir(os.path.dirname(rest[0]))
        name = os.path.basename(rest[0])
        client.push(target=reference, files=[name + ":text/plain"], manifest_annotations={"mark": "oras"})
    elif verb == "pull":
        client.pull(target=reference, outdir=rest[0])
    elif verb == "tags":
        print("\n".join(client.get_tags(reference)))
    else:
        sys.exit("unknown verb " + verb)


main(*sys.argv[1:])
