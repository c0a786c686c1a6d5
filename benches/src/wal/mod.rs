//! How a write reaches the medium: two measurements behind one design decision each.
//!
//! - [`methods`]: one WAL, several ways to make a round durable, one to 512 writers (decision 0001).
//! - [`partitions`]: a WAL beside segments, against syncing the segments themselves, one to 10,000 hot partitions
//!   (decision 0002).
//!
//! Both run the same loop ([`commit`]): writers, each with one record outstanding, feed a committer thread that takes all
//! that is queued, writes it with one durable write through a [`device`], and answers in order. The writers are slots that
//! one thread drives ([`load`]), as tasks of an async runtime would be; a thread per writer would measure the scheduler.

pub mod calm;
pub mod commit;
pub mod device;
pub mod load;
pub mod methods;
pub mod partitions;
pub mod report;
pub mod segments;
pub mod uring;
