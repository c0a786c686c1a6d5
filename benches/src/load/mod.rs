//! Load: who sends or reads what, when, and what is measured meanwhile.
//!
//! A phase ([`phase`]) runs jobs on threads, samples their meters ([`meter`]) once a second, and reads what the server, the
//! machine and the generator itself have used ([`cost`]). Jobs are producers ([`producer`]), each thread driving any number of
//! connections on a schedule ([`schedule`]) or as fast as they are answered, and consumers ([`consumer`]), each a connection.
//! [`end_to_end`] joins the two. Scenarios are in [`crate::scenario`].

pub mod consumer;
pub mod cost;
pub mod end_to_end;
pub mod keys;
pub mod meter;
pub mod phase;
pub mod producer;
pub mod schedule;
