"""What members did, shown on the QuickBooks customer: queue it, write it, read engagement."""
