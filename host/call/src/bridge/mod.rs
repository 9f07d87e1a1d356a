//! The agents' legs and the judge of offers.
