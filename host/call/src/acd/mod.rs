//! The reservation.
