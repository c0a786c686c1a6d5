//! The OCI image layout: blobs named by their SHA-256, a configuration and a manifest among them, and an index that names the
//! manifest. The layer is not compressed: its digest is then that of the configuration's `diff_ids` too.

use super::containerfile::Stage;
use super::tar::Archive;
use crate::workspace::capture;
use anyhow::{Context, Result};
use serde_json::{Value, json};
use std::path::Path;
use std::process::Command;

const INDEX: &str = "application/vnd.oci.image.index.v1+json";
const MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
const CONFIG: &str = "application/vnd.oci.image.config.v1+json";
const LAYER: &str = "application/vnd.oci.image.layer.v1.tar";

/// Writes the layout into `out`, and returns the manifest's digest.
pub fn write(out: &Path, stage: &Stage, program: &[u8], architecture: &str, name: &str) -> Result<String> {
    std::fs::create_dir_all(out.join("blobs/sha256"))?;
    let layer = blob(out, LAYER, &layer(stage, program))?;
    let config = json!({
        "architecture": architecture,
        "os": "linux",
        "config": stage.config(),
        "rootfs": { "type": "layers", "diff_ids": [layer["digest"]] },
        "history": [{ "created_by": "cargo xtask image" }],
    });
    let config = blob(out, CONFIG, &serde_json::to_vec(&config)?)?;
    let manifest = json!({ "schemaVersion": 2, "mediaType": MANIFEST, "config": config, "layers": [layer] });
    let mut manifest = blob(out, MANIFEST, &serde_json::to_vec(&manifest)?)?;
    let digest = manifest["digest"].as_str().unwrap_or_default().to_owned();
    manifest["platform"] = json!({ "os": "linux", "architecture": architecture });
    let tag = name.rsplit_once(':').map_or("latest", |(_, tag)| tag);
    manifest["annotations"] = json!({
        "org.opencontainers.image.ref.name": tag,
        "io.containerd.image.name": format!("docker.io/library/{name}"),
    });
    let index = json!({ "schemaVersion": 2, "mediaType": INDEX, "manifests": [manifest] });
    std::fs::write(out.join("index.json"), serde_json::to_vec(&index)?)?;
    std::fs::write(out.join("oci-layout"), "{\"imageLayoutVersion\":\"1.0.0\"}")?;
    Ok(digest)
}

/// What the stage copies: the binary, and for everything else a folder that only its owner may enter.
fn layer(stage: &Stage, program: &[u8]) -> Vec<u8> {
    let mut archive = Archive::default();
    for (source, path, owner) in &stage.copies {
        let path = path.trim_start_matches('/');
        if source.ends_with("/headwater") {
            archive.file(path, 0o755, *owner, program);
        } else {
            archive.folder(path, 0o700, *owner);
        }
    }
    archive.finish()
}

/// Keeps a blob under its digest, and returns what refers to it.
fn blob(out: &Path, media_type: &str, bytes: &[u8]) -> Result<Value> {
    let folder = out.join("blobs/sha256");
    let unnamed = folder.join("unnamed");
    std::fs::write(&unnamed, bytes)?;
    let digest = sha256(&unnamed)?;
    std::fs::rename(&unnamed, folder.join(&digest))?;
    Ok(json!({ "mediaType": media_type, "digest": format!("sha256:{digest}"), "size": bytes.len() }))
}

/// A file's SHA-256 in hexadecimal, by the program that every Linux has.
pub fn sha256(path: &Path) -> Result<String> {
    let said = capture(Command::new("sha256sum").arg("--binary").arg(path))?;
    Ok(said.split_whitespace().next().context("sha256sum says nothing")?.to_owned())
}
