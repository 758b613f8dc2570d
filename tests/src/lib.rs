//! What must hold of treecast, across crates.
//!
//! [`oracle`] turns a simulated run into a [`History`](oracle::History); each file of
//! [`invariant`] judges one property of it, with the source of its definition; [`chaos`]
//! generates runs from seeds; [`fuzzing`] has the bodies of the fuzz targets; [`hosts`] runs real
//! processes on hosts of their own. The tests themselves are in `tests/tests/`.
//!
//! A failing run prints its seed. `TREECAST_SEED=N` runs that seed alone, and
//! `TREECAST_SEEDS=K` sets how many are run.

pub mod chaos;
pub mod fuzzing;
pub mod hosts;
pub mod invariant;
pub mod oracle;
pub mod seeds;
