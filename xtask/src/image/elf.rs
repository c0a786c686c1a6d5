//! Looks into a program's ELF header: which machine it is for, and whether it needs anything else to run.

use anyhow::{Context, Result, bail, ensure};

const PROGRAM_INTERPRETER: u32 = 3;
const DYNAMIC: u32 = 2;
/// The tag of an entry of the dynamic section that names a library.
const NEEDED: u64 = 1;

/// The machines that images are made for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Machine {
    X86_64,
    Aarch64,
}

impl Machine {
    /// As image formats name it.
    pub fn architecture(self) -> &'static str {
        match self {
            Machine::X86_64 => "amd64",
            Machine::Aarch64 => "arm64",
        }
    }
}

/// The machine that a program is for; an error when it is no ELF program, or not a static one.
pub fn static_program(bytes: &[u8]) -> Result<Machine> {
    ensure!(bytes.starts_with(b"\x7fELF\x02\x01"), "is no 64-bit little-endian ELF file");
    let machine = match number(bytes, 18, 2)? {
        62 => Machine::X86_64,
        183 => Machine::Aarch64,
        other => bail!("is for a machine that images are not made for ({other})"),
    };
    let (table, size, count) = (number(bytes, 32, 8)?, number(bytes, 54, 2)?, number(bytes, 56, 2)?);
    for index in 0..count {
        let header = at(table.checked_add(index * size).context("a broken header")?)?;
        match number(bytes, header, 4)? as u32 {
            PROGRAM_INTERPRETER => bail!("is not static: it asks for a loader of the machine that it runs on"),
            DYNAMIC => {
                let (start, length) = (at(number(bytes, header + 8, 8)?)?, at(number(bytes, header + 32, 8)?)?);
                for entry in (start..start.saturating_add(length)).step_by(16) {
                    ensure!(number(bytes, entry, 8)? != NEEDED, "is not static: it needs a library");
                }
            }
            _ => {}
        }
    }
    Ok(machine)
}

fn at(position: u64) -> Result<usize> {
    usize::try_from(position).context("a broken header")
}

/// A little-endian number of `size` bytes.
fn number(bytes: &[u8], position: usize, size: usize) -> Result<u64> {
    let end = position.checked_add(size).context("a broken header")?;
    let part = bytes.get(position..end).context("ends within its headers")?;
    Ok(part.iter().rev().fold(0, |number, byte| number << 8 | u64::from(*byte)))
}

#[cfg(test)]
pub mod tests {
    use super::*;

    /// The head of an ELF program with program headers of these types, the first of which spans `data`.
    pub fn program(types: &[u32], data: &[u8]) -> Vec<u8> {
        let mut bytes = vec![0; 64 + 56 * types.len()];
        bytes[..6].copy_from_slice(b"\x7fELF\x02\x01");
        bytes[18] = 62;
        bytes[32] = 64;
        bytes[54] = 56;
        bytes[56] = types.len() as u8;
        let end = bytes.len() as u64;
        for (index, kind) in types.iter().enumerate() {
            let header = 64 + 56 * index;
            bytes[header..header + 4].copy_from_slice(&kind.to_le_bytes());
            bytes[header + 8..header + 16].copy_from_slice(&end.to_le_bytes());
            bytes[header + 32..header + 40].copy_from_slice(&(data.len() as u64).to_le_bytes());
        }
        bytes.extend_from_slice(data);
        bytes
    }

    #[test]
    fn only_a_program_that_needs_nothing_is_static() {
        let relocations = [7u64, 0, 0, 0].map(u64::to_le_bytes).concat();
        let library = [NEEDED, 9, 0, 0].map(u64::to_le_bytes).concat();
        assert_eq!(static_program(&program(&[1], &[])).unwrap(), Machine::X86_64);
        assert_eq!(static_program(&program(&[DYNAMIC], &relocations)).unwrap(), Machine::X86_64, "a static-pie");
        assert!(static_program(&program(&[DYNAMIC], &library)).is_err());
        assert!(static_program(&program(&[1, PROGRAM_INTERPRETER], &[])).is_err());
        // This test itself is linked to the machine's libraries, except where the whole toolchain is a static one.
        if cfg!(target_env = "gnu") {
            assert!(static_program(&std::fs::read(std::env::current_exe().unwrap()).unwrap()).is_err());
        }
    }

    #[test]
    fn broken_files_are_errors() {
        let whole = program(&[DYNAMIC, 1], &[0; 64]);
        for end in 0..64 + 56 {
            assert!(static_program(&whole[..end]).is_err(), "{end}");
        }
        let mut far = whole;
        far[32..40].copy_from_slice(&u64::MAX.to_le_bytes());
        assert!(static_program(&far).is_err());
    }
}
