//! Accepts connections and speaks HTTP/2 with a cork.
