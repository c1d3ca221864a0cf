//! Real database servers for the tests: started when the first test asks, stopped when the test program ends, however
//! it ends; never run as root.

pub mod postgres;
