//! The binary as a process: what it prints, how it ends, what it serves.

mod common;
mod config;
mod dump;
mod group;
mod member;
mod old_broker;
mod proxy;
mod replay;
mod serve;
mod topic;
