//! Reads results and renders them: tables, charts, `report.md`, `index.html`, `report.json`, parquet.
