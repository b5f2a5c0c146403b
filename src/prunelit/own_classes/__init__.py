"""Config choices ``custom`` of the groups ``pruner`` and ``model``, for classes of the user's own.

They lie apart from ``conf/``, since every choice there can be run as it is and these need a ``_target_``.
"""
