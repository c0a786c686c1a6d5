//! Checks an image layout as a loader would, and runs the binary that is in it.

use super::elf;
use super::layout::sha256;
use crate::workspace::{capture, read};
use anyhow::{Context, Result, ensure};
use serde_json::Value;
use std::path::{Path, PathBuf};
use std::process::Command;

/// Checks every digest and size of the layout, unpacks it into `root`, and returns what the binary says of its version.
pub fn verify(layout: &Path, root: &Path) -> Result<String> {
    unpack(layout, root)?;
    let program = root.join("headwater");
    elf::static_program(&std::fs::read(&program)?)?;
    // In a root of its own, where nothing else is: what it would need from the machine would be missing.
    let mut alone = Command::new("unshare");
    alone.args(["--map-root-user", "chroot"]).arg(root).args(["/headwater", "--version"]);
    // Not every machine lets users have namespaces.
    capture(&mut alone).or_else(|_| capture(Command::new(&program).arg("--version")))
}

fn unpack(layout: &Path, root: &Path) -> Result<()> {
    let marker = json(&layout.join("oci-layout"))?;
    ensure!(marker["imageLayoutVersion"] == "1.0.0", "no image layout");
    let index = json(&layout.join("index.json"))?;
    let manifest = json(&blob(layout, &index["manifests"][0])?)?;
    let config = json(&blob(layout, &manifest["config"])?)?;
    let layers = manifest["layers"].as_array().context("no layers")?;
    let ids = config["rootfs"]["diff_ids"].as_array().context("no diff_ids")?;
    ensure!(layers.len() == ids.len(), "{} layers, {} ids", layers.len(), ids.len());
    std::fs::create_dir_all(root)?;
    for (layer, id) in layers.iter().zip(ids) {
        ensure!(layer["digest"] == *id, "a layer that is not compressed has the id {id}");
        let mut tar = Command::new("tar");
        tar.arg("--extract")
            .arg("--no-same-owner")
            .arg("--file")
            .arg(blob(layout, layer)?)
            .arg("--directory")
            .arg(root);
        capture(&mut tar)?;
    }
    let user = config["config"]["User"].as_str().unwrap_or_default();
    let number = user.split(':').next().unwrap_or_default().parse::<u32>();
    ensure!(number.is_ok_and(|user| user != 0), "the user `{user}` is not a number above 0");
    Ok(())
}

/// The blob that a descriptor refers to, when it is what the descriptor says.
fn blob(layout: &Path, descriptor: &Value) -> Result<PathBuf> {
    let digest =
        descriptor["digest"].as_str().and_then(|digest| digest.strip_prefix("sha256:")).context("no digest")?;
    let path = layout.join("blobs/sha256").join(digest);
    let size = std::fs::metadata(&path).with_context(|| path.display().to_string())?.len();
    ensure!(descriptor["size"] == size, "{digest} has {size} bytes, not {}", descriptor["size"]);
    ensure!(sha256(&path)? == digest, "{digest} has another digest");
    Ok(path)
}

fn json(path: &Path) -> Result<Value> {
    serde_json::from_str(&read(path)?).with_context(|| path.display().to_string())
}

#[cfg(test)]
mod tests {
    use super::super::containerfile::Stage;
    use super::super::{elf, layout};
    use super::*;

    /// A folder that is gone when the test is done.
    struct Folder(PathBuf);

    impl Drop for Folder {
        fn drop(&mut self) {
            let _left_over = std::fs::remove_dir_all(&self.0);
        }
    }

    fn image(name: &str) -> (Folder, PathBuf) {
        let folder = std::env::temp_dir().join(format!("headwater-xtask-{name}-{}", std::process::id()));
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
        let stage = Stage::last(&read(&root.join("deploy/Containerfile")).unwrap()).unwrap();
        let program = elf::tests::program(&[1], &[0; 1000]);
        let layout = folder.join("image");
        layout::write(&layout, &stage, &program, "amd64", "headwater:latest").unwrap();
        (Folder(folder), layout)
    }

    #[test]
    fn the_containerfile_makes_an_image_whose_digests_hold() {
        let (folder, layout) = image("image");
        let root = folder.0.join("root");
        unpack(&layout, &root).unwrap();
        assert!(elf::static_program(&std::fs::read(root.join("headwater")).unwrap()).is_ok());
        assert!(root.join("data").is_dir());
        // What a loader sees of owners, and that another program reads our archive.
        let manifest =
            json(&blob(&layout, &json(&layout.join("index.json")).unwrap()["manifests"][0]).unwrap()).unwrap();
        let layer = blob(&layout, &manifest["layers"][0]).unwrap();
        let mut tar = Command::new("tar");
        let listed = capture(tar.args(["--list", "--verbose", "--numeric-owner", "--file"]).arg(&layer)).unwrap();
        let lines: Vec<&str> = listed.lines().collect();
        assert!(lines[0].starts_with("-rwxr-xr-x 0/0") && lines[0].ends_with(" headwater"), "{listed}");
        assert!(lines[1].starts_with("drwx------ 65532/65532") && lines[1].ends_with(" data/"), "{listed}");
        let config = json(&blob(&layout, &manifest["config"]).unwrap()).unwrap();
        assert_eq!(config["config"]["Entrypoint"], serde_json::json!(["/headwater"]));
        assert_eq!(config["config"]["Healthcheck"]["Test"], serde_json::json!(["CMD", "/headwater", "health"]));
        // The same input makes the same image.
        let (_other_folder, other) = image("again");
        assert_eq!(read(&layout.join("index.json")).unwrap(), read(&other.join("index.json")).unwrap());
    }

    #[test]
    fn a_changed_blob_is_found() {
        let (folder, layout) = image("changed");
        let manifest =
            json(&blob(&layout, &json(&layout.join("index.json")).unwrap()["manifests"][0]).unwrap()).unwrap();
        let layer = blob(&layout, &manifest["layers"][0]).unwrap();
        let mut bytes = std::fs::read(&layer).unwrap();
        bytes[600] ^= 1;
        std::fs::write(&layer, bytes).unwrap();
        assert!(unpack(&layout, &folder.0.join("root")).unwrap_err().to_string().contains("another digest"));
    }
}
