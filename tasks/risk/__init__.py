"""§4.1, §6: what does each pending migration risk, and which fact says so?"""
