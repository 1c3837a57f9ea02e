"""``sentiment``: English and Chinese texts to whether they speak well or ill of their subject."""
