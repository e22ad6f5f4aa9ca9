//! The runtime: the only room that names glommio or io-uring, and where `unsafe` lives.
//!
//! | file          | subject                                                                  |
//! |---------------|--------------------------------------------------------------------------|
//! | [`clock`]     | the monotonic clock and the CPU clock of a thread                         |
//! | [`probe`]     | what the kernel and its limits allow, asked before any executor exists    |
//! | [`executor`]  | pinned executors, tasks, sleeping, blocking work                          |
//! | [`event_fd`]  | an owned eventfd                                                          |
//! | [`poller`]    | the readiness set of a shard (epoll)                                      |
//! | [`waiter`]    | a task's wait for that set or a deadline                                  |
//! | [`doorbell`]  | "wake me only when I said that I sleep", between threads                  |
//! | [`mesh`]      | bounded lanes between all nodes, and inboxes for plain threads            |
//! | [`egress`]    | many sends at once: `send(2)` or one batch on a private ring              |
//! | [`socket`]    | single calls on TCP sockets that never block                              |
//! | [`net`]       | asynchronous TCP for the control shard                                    |
//! | [`tls`]       | TLS for outgoing connections of the control shard                         |
//! | [`tls_pump`]  | TLS for connections that a media shard holds like plain ones              |
//! | [`memory`]    | how the process uses memory                                              |
//! | [`listeners`] | a plain thread's wait for listening sockets and a stop signal             |
//!
//! A media shard does not use asynchronous sockets: it reads the [`poller`] in turns and awaits the
//! [`waiter`] between them.

pub mod clock;
pub mod doorbell;
pub mod egress;
pub mod event_fd;
pub mod executor;
pub mod listeners;
pub mod memory;
pub mod mesh;
pub mod net;
pub mod poller;
pub mod probe;
pub mod socket;
mod syscall;
pub mod tls;
pub mod tls_pump;
pub mod waiter;
