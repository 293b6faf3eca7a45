// Verifies and signs bundles with sigstore-js: `peer.mjs sign|verify ...`, all input by files. Its packages are found in
// the directory that is named first.
import { createRequire } from "node:module";
import { readFileSync, writeFileSync } from "node:fs";

const [packages, command, ...words] = process.argv.slice(2);
const load = createRequire(packages + "/");
const { TrustedRoot, SigningConfig } = load("@sigstore/protobuf-specs");
const { bundleFromJSON, bundleToJSON } = load("@sigstore/bundle");

const json = (path) => JSON.parse(readFileSync(path, "utf8"));

// Throws for a bundle that is not about the file, or not by the identity; with a key, by that key.
const verify = (root, artifact, identity, issuer, bundle, key) => {
  const { Verifier, toSignedEntity, toTrustMaterial } = load("@sigstore/verify");
  const keys = key && { hint: { rawBytes: readFileSync(key), keyDetails: 5 } };
  const finder = keys && (() => ({ publicKey: load("node:crypto").createPublicKey(readFileSync(key)), validFor: () => true }));
  const material = toTrustMaterial(TrustedRoot.fromJSON(json(root)), finder);
  const policy = key ? undefined : { subjectAlternativeName: identity, extensions: { issuer } };
  const options = key ? { ctlogThreshold: 0 } : {};
  const entity = toSignedEntity(bundleFromJSON(json(bundle)), readFileSync(artifact));
  new Verifier(material, options).verify(entity, policy);
};

const sign = async (config, artifact, token, form, bundle) => {
  const { bundleBuilderFromSigningConfig } = load("@sigstore/sign");
  const data = readFileSync(artifact);
  const builder = bundleBuilderFromSigningConfig({
    signingConfig: SigningConfig.fromJSON(json(config).signingConfig),
    identityProvider: { getToken: async () => readFileSync(token, "utf8").trim() },
    bundleType: form === "message" ? "messageSignature" : "dsseEnvelope",
    fetchOptions: { retry: 0, timeout: 30000 },
  });
  const digest = load("node:crypto").createHash("sha256").update(data).digest("hex");
  const statement = {
    _type: "https://in-toto.io/Statement/v1",
    subject: [{ name: "manifest", digest: { sha256: digest } }],
    predicateType: "https://sigstore.dev/cosign/sign/v1",
    predicate: {},
  };
  const made = await builder.create(
    form === "message" ? { data } : { data: Buffer.from(JSON.stringify(statement)), type: "application/vnd.in-toto+json" },
  );
  writeFileSync(bundle, JSON.stringify(bundleToJSON(made)));
};

if (command === "verify") verify(...words);
else await sign(...words);
