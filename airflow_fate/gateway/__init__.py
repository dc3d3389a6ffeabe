"""What runs beside an engine? A gateway, which loads models, serves in order and reports what it has.

``http`` takes requests in and answers them. ``serving`` decides which of them runs next. ``engines`` compute. ``cache``
knows which prefixes lie there. ``report`` tells others. ``core`` joins these for one device, and ``process`` runs it.
"""
