//! Reads lines in large pieces, on a thread of its own.

use crate::exit::{FAILED, Failure};
use std::fs::File;
use std::io::{IsTerminal, Read};
use std::path::Path;
use tokio::sync::mpsc;

/// Whole lines, the last one's end included unless the input ends without it.
pub type Chunk = Result<Vec<u8>, Failure>;

const READ_SIZE: usize = 256 << 10;
const LINE_SIZE_MAX: usize = 64 << 20;
const CHUNKS_AHEAD: usize = 8;

/// Starts to read a file or standard input.
pub fn read(file: Option<&Path>) -> Result<mpsc::Receiver<Chunk>, Failure> {
    let source: Box<dyn Read + Send> = match file {
        Some(path) => Box::new(open(path)?),
        None => {
            if std::io::stdin().is_terminal() && std::io::stderr().is_terminal() {
                eprintln!("each line becomes a record; Ctrl-D ends");
            }
            Box::new(std::io::stdin())
        }
    };
    let (sender, receiver) = mpsc::channel(CHUNKS_AHEAD);
    std::thread::Builder::new().name("input".to_owned()).spawn(move || pump(source, &sender))?;
    Ok(receiver)
}

#[allow(clippy::disallowed_methods, reason = "a tool reads the file that its user names")]
fn open(path: &Path) -> Result<File, Failure> {
    File::open(path).map_err(|error| Failure::new(FAILED, format!("cannot open {}: {error}", path.display())))
}

fn pump(mut source: impl Read, out: &mpsc::Sender<Chunk>) {
    let mut held: Vec<u8> = Vec::new();
    loop {
        let start = held.len();
        held.resize(start + READ_SIZE, 0);
        let read = match source.read(&mut held[start..]) {
            Ok(read) => read,
            Err(error) if error.kind() == std::io::ErrorKind::Interrupted => {
                held.truncate(start);
                continue;
            }
            Err(error) => {
                let _ = out.blocking_send(Err(Failure::new(FAILED, format!("cannot read the input: {error}"))));
                return;
            }
        };
        held.truncate(start + read);
        if read == 0 {
            if !held.is_empty() {
                let _ = out.blocking_send(Ok(held));
            }
            return;
        }
        // Only the new bytes can hold a line's end: the older ones were looked at.
        let Some(end) = held[start..].iter().rposition(|byte| *byte == b'\n').map(|end| start + end + 1) else {
            if held.len() > LINE_SIZE_MAX {
                let message = format!("the input has a line of more than {LINE_SIZE_MAX} bytes");
                let _ = out.blocking_send(Err(Failure::new(FAILED, message)));
                return;
            }
            continue;
        };
        let rest = held.split_off(end);
        if out.blocking_send(Ok(std::mem::replace(&mut held, rest))).is_err() {
            return;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Gives out a few bytes at a time.
    struct Drip<'a>(&'a [u8], usize);

    impl Read for Drip<'_> {
        fn read(&mut self, out: &mut [u8]) -> std::io::Result<usize> {
            let size = self.1.min(self.0.len());
            let (now, later) = self.0.split_at(size);
            out[..size].copy_from_slice(now);
            self.0 = later;
            Ok(size)
        }
    }

    fn chunks(text: &[u8], step: usize) -> Vec<Vec<u8>> {
        let (sender, mut receiver) = mpsc::channel(1000);
        pump(Drip(text, step), &sender);
        drop(sender);
        std::iter::from_fn(|| receiver.blocking_recv()).map(Result::unwrap).collect()
    }

    #[test]
    fn lines_stay_whole_however_they_arrive() {
        for step in 1..12 {
            let chunks = chunks(b"one\ntwo\n\nthree", step);
            assert_eq!(chunks.concat(), b"one\ntwo\n\nthree");
            let (last, whole) = chunks.split_last().unwrap();
            assert_eq!(last, b"three");
            assert!(whole.iter().all(|chunk| chunk.ends_with(b"\n")), "step {step}: {whole:?}");
        }
        assert!(chunks(b"", 1).is_empty());
    }
}
