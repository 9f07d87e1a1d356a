//! Calls end to end, with programs from elsewhere. Each test starts a centre of its own and ends by
//! asserting that everyone has hung up and nothing is left behind (`Centre::finish`).

mod flow;
