"""Signs and verifies bundles with sigstore-python: `peer.py sign|verify ...`, all input by files."""

import json
import sys
from hashlib import sha256
from pathlib import Path

from sigstore.dsse import DigestSet, StatementBuilder, Subject
from sigstore.models import Bundle, ClientTrustConfig, TrustedRoot
from sigstore.oidc import IdentityToken
from sigstore.sign import SigningContext
from sigstore.verify import Verifier, policy


def verify(root: Path, artifact: Path, identity: str, issuer: str, bundle: Path) -> None:
    """Verifies a bundle about a file; a statement must name the file's digest."""
    verifier = Verifier(trusted_root=TrustedRoot.from_file(str(root)))
    signer = policy.Identity(identity=identity, issuer=issuer)
    read = Bundle.from_json(bundle.read_text())
    content = artifact.read_bytes()
    if "dsseEnvelope" in json.loads(bundle.read_text()):
        kind, payload = verifier.verify_dsse(read, signer)
        assert kind == "application/vnd.in-toto+json", kind
        digests = [subject["digest"]["sha256"] for subject in json.loads(payload)["subject"]]
        assert digests == [sha256(content).hexdigest()], digests
    else:
        verifier.verify_artifact(content, read, signer)


def sign(config: Path, artifact: Path, token: Path, form: str, bundle: Path) -> None:
    """Signs a file: its content, or a statement about it."""
    context = SigningContext.from_trust_config(ClientTrustConfig.from_json(config.read_text()))
    content = artifact.read_bytes()
    with context.signer(IdentityToken(token.read_text().strip())) as signer:
        if form == "message":
            made = signer.sign_artifact(content)
        else:
            subject = Subject(name="manifest", digest=DigestSet(root={"sha256": sha256(content).hexdigest()}))
            builder = StatementBuilder([subject], "https://sigstore.dev/cosign/sign/v1", {})
            made = signer.sign_dsse(builder.build())
    bundle.write_text(made.to_json())


if __name__ == "__main__":
    command, *words = sys.argv[1:]
    if command == "verify":
        verify(Path(words[0]), Path(words[1]), words[2], words[3], Path(words[4]))
    else:
        sign(Path(words[0]), Path(words[1]), Path(words[2]), words[3], Path(words[4]))
