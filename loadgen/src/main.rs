//! Load generator for live media servers.

fn main() {}
