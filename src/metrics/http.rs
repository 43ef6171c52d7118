//! How is a scrape answered? (Written next.)
